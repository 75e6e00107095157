"""The ground floor: values that cannot be invalid, and the errors of the domain."""
