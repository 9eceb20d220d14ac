-- Publishes a snapshot of a model's live items, whole or not at all.
--
-- KEYS   1 the HASH of the header; 2 the delta of the snapshot; then the chunks that are written; then the deltas
--        that are in the chunks by now, and are deleted
-- ARGV   1 number of the learner; 2 its snapshot, 0 for the first; 3 seconds that it is kept; 4 how many chunks
--        there are; 5 the delta, empty where the snapshot is not new; then the value of each chunk, empty for one
--        that is only kept longer; then the header's fields and values
-- Returns 1; 0 where another learner has replaced this one; -1 where Redis has lost what it had published.

local found = redis.call('HMGET', KEYS[1], 'run', 'snapshot')
local run, snapshot = tonumber(found[1] or '0'), tonumber(found[2] or '0')
local wanted_run, wanted, ttl_s, chunks = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if run > wanted_run then return 0 end
if wanted > 0 and (run ~= wanted_run or (snapshot ~= wanted and snapshot ~= wanted - 1)) then return -1 end
if ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5], 'EX', ttl_s) end
for each = 1, chunks do
  if ARGV[5 + each] == '' then
    redis.call('EXPIRE', KEYS[2 + each], ttl_s)
  else
    redis.call('SET', KEYS[2 + each], ARGV[5 + each], 'EX', ttl_s)
  end
end
for each = 3 + chunks, #KEYS do redis.call('UNLINK', KEYS[each]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 6 + chunks))
redis.call('EXPIRE', KEYS[1], ttl_s)
return 1
