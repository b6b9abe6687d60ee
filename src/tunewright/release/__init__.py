"""Promotion, adoption and export: which model a project stands for, and how it leaves the project."""
