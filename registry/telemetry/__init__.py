"""What the process tells its operators: log lines and metrics."""
