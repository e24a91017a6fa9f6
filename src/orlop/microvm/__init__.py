"""Virtual machines of QEMU's `microvm` kind: kernel and system image, templates, clones."""
