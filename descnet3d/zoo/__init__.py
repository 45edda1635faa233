"""Presets: found, fetched, published and described."""
