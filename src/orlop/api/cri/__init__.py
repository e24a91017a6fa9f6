"""CRI v1: the services by which Kubernetes' kubelet runs pods, and their messages."""
