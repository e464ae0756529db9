"""The pages that people see, one module each: what a template is told, and what its forms do."""
