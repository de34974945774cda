"""The layout of report.json, which one version writes and another reads."""

#: Raise it when a key of report.json changes its meaning or goes; a new key needs no new version.
REPORT_SCHEMA = 1
