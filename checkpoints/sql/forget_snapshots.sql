-- After the rows were restored into a database, capture every mission in full the next time: the events cannot show
-- what has changed since a checkpoint, because transactions may have other numbers here. The number is larger than that
-- of any transaction (checkpoints/rows/reading.py).
UPDATE checkpoints_checkpoint SET snapshot = '1:9223372036854775807:';
