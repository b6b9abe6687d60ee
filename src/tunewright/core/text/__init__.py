"""Texts under inspection: personal data and secrets found and masked, for the data stage and the server alike."""
