"""FyreToolkit: production ML infrastructure behind one HTTP API, on Ray.

Importing it costs nothing: neither Ray nor ONNX Runtime is loaded. The platform's parts are subpackages, described in
`platform/README.md`.
"""
