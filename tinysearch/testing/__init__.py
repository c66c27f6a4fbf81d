"""Conformance suites for what packages add to TinySearch, to be run by pytest."""
