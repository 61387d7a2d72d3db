"""HTTP client, downloads and logins."""
