"""Deployment: model registry, promotion, export, the page and its API."""
