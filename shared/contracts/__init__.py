"""The events services say to each other, one module for each service that says them."""
