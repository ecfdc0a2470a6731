'use strict';
// Reads what the user gives, has the worker appraise it, and shows the result in a frame
// that runs no script.
const field = id => document.getElementById(id);
const status = field('status'), frame = field('result'), form = field('form');
const roles = ['evidence', 'policy', 'root', 'collateral', 'userData', 'quote', 'boot', 'ima', 'runtime'];
const dropped = {};

const text = field('worker').textContent;
const worker = new Worker(URL.createObjectURL(new Blob([text], { type: 'text/javascript' })));
worker.onmessage = ({ data }) => {
	if (data.ready) {
		status.textContent = 'Ready. Nothing that you give leaves this page: it can\'t connect to anything.';
		document.body.dataset.ready = performance.now();
		return;
	}
	if (data.error) {
		status.textContent = data.error;
		field('out').hidden = true;
	} else {
		status.textContent = 'Appraised in ' + Math.ceil(data.took) + ' ms.';
		frame.srcdoc = data.html;
		field('json').textContent = data.json;
		field('out').hidden = false;
	}
	document.body.dataset.took = data.took || 0;
	document.body.dataset.done = String(Number(document.body.dataset.done || 0) + 1);
	field('go').disabled = false;
};
worker.onerror = event => { status.textContent = 'The verifier failed: ' + event.message; };
const sample = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(field('sample').textContent), c => c.charCodeAt(0))));
worker.postMessage({ packed: field('wasm').textContent.trim(), sample });

// The frame is as high as what is in it, so that the page has one scroll bar.
frame.addEventListener('load', () => {
	const root = frame.contentDocument.documentElement;
	const fit = () => { frame.style.height = root.scrollHeight + 'px'; };
	new ResizeObserver(fit).observe(root);
	fit();
});

async function read(list) {
	const files = [];
	for (const f of list) files.push({ name: f.name, data: new Uint8Array(await f.arrayBuffer()) });
	return files;
}

form.addEventListener('submit', async event => {
	event.preventDefault();
	field('go').disabled = true;
	status.textContent = 'Appraising…';
	const asked = { nonce: field('nonce').value.trim(), at: field('at').value.trim() };
	for (const role of roles) asked[role] = await read(dropped[role] || field(role).files);
	worker.postMessage({ asked });
});

for (const role of roles) {
	field(role).addEventListener('change', () => { delete dropped[role]; tell(); });
}
form.addEventListener('reset', () => {
	for (const role of roles) delete dropped[role];
	field('out').hidden = true;
	tell();
});

// What is dropped anywhere goes where it belongs.
addEventListener('dragover', event => event.preventDefault());
addEventListener('drop', async event => {
	event.preventDefault();
	for (const f of event.dataTransfer.files) {
		const role = await roleOf(f);
		dropped[role] = [...(['policy', 'collateral'].includes(role) && dropped[role] || []), f];
	}
	tell();
});

async function roleOf(f) {
	if (/^(tcb-|qe-identity|pck-crl-|root-crl)/.test(f.name)) return 'collateral';
	const head = await f.slice(0, 4096).text();
	if (/^\s*\{/.test(head)) return 'evidence';
	if (head.includes('-----BEGIN CERTIFICATE')) return 'root';
	if (head.includes('cima_policy')) return 'policy';
	if (head.includes('Spec ID Event03')) return 'boot';
	return /^[\x04\x05]\x00/.test(head) ? 'quote' : 'userData';
}

function tell() {
	const given = roles.filter(role => dropped[role]).map(role => role + ': ' + dropped[role].map(f => f.name).join(', '));
	field('dropped').textContent = given.length ? 'Dropped here: ' + given.join('; ') : '';
}
