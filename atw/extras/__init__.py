"""What hangs on the pipeline and no result passes through: pages, pictures, predictions, tables, downloads."""
