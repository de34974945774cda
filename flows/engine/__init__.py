"""The engine: steps, declared in `tasks`, as a graph of results that Prefect makes."""
