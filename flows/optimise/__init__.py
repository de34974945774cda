"""`indexscope optimise`: a search for a cheaper edit, its validation, and what it writes."""
