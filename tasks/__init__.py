"""One Prefect task per step: read from storage, call analysis, write to storage."""
