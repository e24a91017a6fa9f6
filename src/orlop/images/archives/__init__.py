"""Image archives: OCI layouts in a folder or a tar, and the format of `docker save`."""
