"""What runs inside a virtual machine: process 1, which speaks the frames of model/guestwire.py."""
