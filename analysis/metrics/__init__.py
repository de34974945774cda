"""Every metric: name, unit, direction, definition and rule, declared by the questions and beside the features."""
