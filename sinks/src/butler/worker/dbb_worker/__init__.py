"""Registers files in one Butler repository, answering for each."""
