"""What every service stands on: the contracts between them and the kit they run on. No business rule."""
