-- End requests: give back what their holds did not use, and append their usage reports.
--
-- KEYS: the index of holds, the stream of usage reports, then each request's hold.
-- ARGV: the longest that a state is kept (ms), then for each request its id, the tokens really
--       used, the micro-dollars that they cost, and the report ("" for none).
-- The hold says which states it took from, so that whoever settles (gateway, worker or
-- reconciler) needs to know nothing but the request id.
-- Returns for each request 1 when this call settled its hold, 0 when that was settled or lost
-- before; the report is appended either way, because the ledger counts a request id once.
local MINUTE, DAY = 60000, 86400000
local max, min, pack, unpacked, call = math.max, math.min, struct.pack, struct.unpack, redis.call
local keep = tonumber(ARGV[1])

local states, changed = {}, {}
local function state_of(key)
  local state = states[key]
  if state == nil then
    state = call('GET', key)
    states[key] = state
  end
  return state
end
local now = 0
local function clock()
  if now == 0 then
    local time = call('TIME')
    now = time[1] * 1000 + time[2] / 1000
  end
  return now
end

local function give_back(hold, used, cost)
  local month, slot_held, tokens, most_tokens, most_micros, limited, count, at =
    unpacked('<dddddBB', hold)
  -- Only a debt needs the time: giving back commutes with the flow of a bucket.
  local at_ms = used > tokens and clock() or 0
  for i = 1, count do
    local minute_step, day_step, key
    minute_step, day_step, key, at = unpacked('<ddHc0', hold, at)
    local state = state_of(key)
    if state or i <= limited then
      local seen, b1, b2, b3, b4, b5, slot, running, earlier, counted, sum, held, spent, spent_held,
        life, life_held, doubts = unpacked(STATE, state_or_empty(state))
      if at_ms > seen then
        local elapsed = at_ms - seen
        b1, b2, b3 = max(b1 - elapsed, 0), max(b2 - elapsed, 0), max(b3 - elapsed, 0)
        b4, b5, seen = max(b4 - elapsed, 0), max(b5 - elapsed, 0), at_ms
      end
      if counted < month then
        sum, spent = sum >= 0 and 0 or -1, sum >= 0 and 0 or -1
        counted, held, spent_held = month, 0, 0
      end
      if i <= limited then
        -- A debt is remembered for one period: a mad report must not lock anybody out for ever.
        b4 = min(max(b4 + (used - tokens) * minute_step, 0), 2 * MINUTE)
        b5 = min(max(b5 + (used - tokens) * day_step, 0), 2 * DAY)
        if slot_held >= slot - 1 then
          -- A clock set back may have put the request into the slot beside its own.
          if running > 0 and (slot_held >= slot or earlier == 0) then
            running = running - 1
          else
            earlier = max(earlier - 1, 0)
          end
        end
        if counted == month then
          held, spent_held = max(held - most_tokens, 0), max(spent_held - most_micros, 0)
        end
        life_held = max(life_held - most_micros, 0)
      end
      if counted == month and sum >= 0 then
        sum, spent = sum + used, spent + cost
      end
      if life >= 0 then
        life = life + cost
      end
      if sum < 0 or life < 0 then
        doubts = doubts + 1
      end
      local ttl = keep
      if sum < 0 and life < 0 and running + earlier == 0 and held == 0 then
        ttl = math.ceil(max(b1, b2, b3, b4, b5)) + 60000
      end
      states[key] = pack(STATE, seen, b1, b2, b3, b4, b5, slot, running, earlier, counted, sum, held,
        spent, spent_held, life, life_held, doubts)
      changed[key] = ttl
    end
  end
end

local found = call('MGET', unpack(KEYS, 3))
local settled, ended, ended_ids = {}, {}, {}
for i = 1, #KEYS - 2 do
  local at, hold = 4 * i - 2, found[i]
  local id, report = ARGV[at], ARGV[at + 3]
  if report ~= '' then
    call('XADD', KEYS[2], '*', 'report', report)
  end
  -- Twice in one call it is settled once, too.
  settled[i] = hold and not ended_ids[id] and 1 or 0
  if settled[i] == 1 then
    ended_ids[id], ended[#ended + 1] = true, id
    give_back(hold, max(0, tonumber(ARGV[at + 1])), max(0, tonumber(ARGV[at + 2])))
  end
end
if #ended > 0 then
  call('DEL', unpack(KEYS, 3))
  call('ZREM', KEYS[1], unpack(ended))
end
for key, ttl in pairs(changed) do
  call('SET', key, states[key], 'PX', ttl)
end
return settled
