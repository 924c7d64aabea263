"""The HTTP front: authentication, validation, the envelope, and the routes."""
