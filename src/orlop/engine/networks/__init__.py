"""Networks, their endpoints, and how containers are connected to them."""
