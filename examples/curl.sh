#!/bin/sh
# Creates a chat, streams an answer, picks a broken stream up again, cancels an answer.   sh curl.sh
set -eu
url=${CHAT_URL:-http://localhost:8000}
user='X-User-Id: user-123'
session='X-Session-Id: session-456'

chat=$(curl -fsS -X POST "$url/api/chat/create" -H "$user" | sed 's/.*"chatId":"\([^"]*\)".*/\1/')
stream="$url/api/chat/$chat/stream"

echo '--- an answer'
curl -fsSN "$stream" -H "$user" -H "$session" --json '{"content": "안녕하세요!"}'

part=$(mktemp)
echo '--- a connection that breaks after two events ...'
curl -fsN "$stream" -H "$user" -H "$session" --json '{"content": "Once more."}' | head -n 7 | tee "$part"
last=$(sed -n 's/^id: //p' "$part" | tail -n 1)
rm "$part"
echo "--- ... and goes on after $last"
curl -fsSN "$stream" -H "$user" -H "$session" -H "Last-Event-ID: $last"

echo '--- cancelled at the first word'
curl -fsSN "$stream" -H "$user" -H "$session" --json '{"content": "A long story, please."}' |
  while read -r line; do
    echo "$line"
    case $line in
      'data: {"delta"'*) [ "${cancelled-}" ] || cancelled=$(curl -fsS -X POST "$url/api/chat/$chat/cancel" -H "$session") ;;
    esac
  done
