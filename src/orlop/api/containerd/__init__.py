"""containerd's gRPC API: what `ctr` and other clients of containerd speak."""
