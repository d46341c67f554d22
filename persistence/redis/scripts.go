package redis

import "github.com/redis/go-redis/v9"

// What a script answers. Anything below 0 is no answer of ours.
const (
	done     = 0
	fenced   = 1
	conflict = 2
)

var (
	// raiseScript: KEYS fence; ARGV epoch.
	raiseScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held and held > ARGV[1] then return 1 end
redis.call('SET', KEYS[1], ARGV[1])
return 0`)

	// putScript: KEYS fence, marker, generations, snapshots; ARGV epoch, old marker, new marker,
	// generation, field, value, …; an empty text is no marker.
	putScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 2 end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('SADD', KEYS[3], ARGV[4])
if #ARGV > 4 then redis.call('HSET', KEYS[4], unpack(ARGV, 5)) end
return 0`)

	// removeScript: KEYS fence, snapshots; ARGV epoch, field, ….
	removeScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
redis.call('HDEL', KEYS[2], unpack(ARGV, 2))
return 0`)

	// markerScript: KEYS fence, marker; ARGV epoch, old, new; an empty text is no marker. A marker that
	// is new already is what an earlier try, whose answer got lost, has put.
	markerScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
local held = redis.call('GET', KEYS[2]) or ''
if held == ARGV[3] then return 0 end
if held ~= ARGV[2] then return 2 end
if ARGV[3] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[3]) end
return 0`)

	// dropScript: KEYS fence, generations, snapshots, …; ARGV epoch, generation, …. The snapshots' memory
	// is freed in the background.
	dropScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 1 end
for i = 3, #KEYS do
	redis.call('UNLINK', KEYS[i])
	redis.call('SREM', KEYS[2], ARGV[i - 1])
end
return 0`)
)

var allScripts = []*redis.Script{raiseScript, putScript, removeScript, markerScript, dropScript}
