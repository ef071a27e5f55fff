"""What is generated from the contracts and the settings classes. A development tool; not part of the wheel."""
