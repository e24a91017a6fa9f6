"""Engines that share networks: who belongs, and what each tells the others."""
