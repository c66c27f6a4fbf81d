"""What came out: fronts, run directories, tables and plots."""
