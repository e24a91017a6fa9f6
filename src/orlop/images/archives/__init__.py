"""Images in files: OCI layouts in a folder or a tar, and what `docker save` writes."""
