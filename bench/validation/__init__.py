"""The models held against published figures: rows with a verdict each, and a page with plots."""

from bench.validation.rows import Row, validate
from bench.validation.subject import Subject

__all__ = ["Row", "Subject", "validate"]
