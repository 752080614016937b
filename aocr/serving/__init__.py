"""Serves an exported model with the REST and gRPC protocols of TensorFlow Serving."""
