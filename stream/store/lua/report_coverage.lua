-- Notes how many users of a partition have the staged model, and has it serve when enough of all have it.
--
-- KEYS   as in registry.lua
-- ARGV   1 version: another than the staged one changes nothing; 2 partition; 3 its users who have the model;
--        4 all its users
-- Returns which models are live then.
-- include registry.lua

if ARGV[1] == staged then
  redis.call('HSET', key, 'covered:' .. ARGV[2], ARGV[3] .. ' ' .. ARGV[4])
  local partitions, done, total = 0, 0, 0
  local all = redis.call('HGETALL', key)
  for place = 1, #all, 2 do
    if string.sub(all[place], 1, 8) == 'covered:' then
      local of_partition, of_total = string.match(all[place + 1], '^(%d+) (%d+)$')
      partitions, done, total = partitions + 1, done + tonumber(of_partition), total + tonumber(of_total)
    end
  end
  if partitions >= number('partitions') and done >= tonumber(get('coverage')) * total then
    serve(staged, staged_publication, serving, serving_publication)
  end
end
return models()
