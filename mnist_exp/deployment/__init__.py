"""A model leaves the house: registry, promotion, export, the page and its API."""
