"""An exported model behind REST and gRPC, as TensorFlow Serving defines them."""

