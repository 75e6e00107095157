"""The drivers there are. Each passes `tests/storage/driver_contract.py`."""
