"""Rightbatch inside other people's tools."""
