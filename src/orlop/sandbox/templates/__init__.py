"""Templates: Python processes that run code in forks of themselves."""
