// The old service's example with the smallest change: what is new or different is marked.
import { EventSource } from "eventsource"; // new

const url = process.env.CHAT_URL ?? "http://localhost:8000"; // new: needed outside a page

// 채팅방 생성
const chatResponse = await fetch(url + '/api/chat/create', {
  method: 'POST',
  headers: { 'X-User-Id': 'user-123' }
});
const { chatId } = await chatResponse.json();

// SSE 스트림 연결
const eventSource = new EventSource(url + '/api/chat/' + chatId + '/stream', {
  fetch: (input, init) => fetch(input, { // new
    ...init, // new
    method: 'POST',
    headers: {
      ...init.headers, // new
      'X-User-Id': 'user-123',
      'X-Session-Id': 'session-456'
    },
    body: JSON.stringify({ content: '안녕하세요!' })
  }) // new
});

eventSource.onmessage = (event) => {
  console.log('AI Response:', event.data);
};
eventSource.addEventListener('done', () => eventSource.close()); // new

// 스트림 취소 (here with Ctrl-C)
process.once('SIGINT', async () => {
  await fetch(url + '/api/chat/' + chatId + '/cancel', {
    method: 'POST',
    headers: { 'X-Session-Id': 'session-456' }
  });
});
