"""The wire format: what callers send and what they get, one file a resource."""
