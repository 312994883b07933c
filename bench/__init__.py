"""The application: bench file, session, procedures, mapping, inference, command line and screen."""
