"""Tools of the judges of the recorded graph: tests/infra holds the judgements themselves."""
