"""What all steps share: their declaration, the Prefect task that makes a unit, loaded models, and stored tables."""
