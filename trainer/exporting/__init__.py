"""The export command and the formats it writes."""
