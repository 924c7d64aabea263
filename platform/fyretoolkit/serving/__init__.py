"""The data plane inside the ingress: which deployment answers, and one prediction from bytes to bytes."""
