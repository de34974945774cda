"""Candidates beside the baseline in evidence selected and answers given, by kind of question, length and depth."""
