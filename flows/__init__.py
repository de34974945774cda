"""What a user runs or schedules: the study file, Prefect flows and the command line."""
