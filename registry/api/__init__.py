"""One module per resource of the distribution-spec."""
