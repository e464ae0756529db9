"""What /openapi.json says of every address that programs use: a small file for each subject, and one entry a route."""
