// Loaded into nni's manager before it starts.
const http = require('http');
const net = require('net');
const os = require('os');

const { NASDISTILL_PORTAL_HOST: host, NASDISTILL_PORTAL_PORT: port } = process.env;
const listen = net.Server.prototype.listen;
const setTimer = global.setTimeout;

// Its portal asks for no password, and listens on every interface by itself.
net.Server.prototype.listen = function (...given) {
  if (Number(given[0]) === Number(port) && typeof given[1] !== 'string') {
    given.splice(1, 0, host);
  }
  return listen.apply(this, given);
};

// A page of another site can have its own name lead to this machine, but it cannot send another name than its own.
const local = ['localhost', '127.0.0.1', '[::1]'];
const opened = !local.includes(host) && host !== '::1';

function isOurs(place) {
  const name = (place || '').toLowerCase().replace(/:[0-9]*$/, '');
  if (local.includes(name)) {
    return true;
  }
  const isAddress = net.isIP(name.replace(/^\[|\]$/g, '')) > 0;
  return opened && (isAddress || name === host.toLowerCase() || name === os.hostname().toLowerCase());
}

function isForeign({ headers: { host: asked, origin } }) {
  return !isOurs(asked) || (origin !== undefined && !isOurs(origin.replace(/^[a-z]+:\/\//, '')));
}

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, request, answer, ...rest) {
  const address = ['request', 'upgrade'].includes(event) ? this.address() : null;
  if (address && address.port === Number(port) && isForeign(request)) {
    if (event === 'request') {
      answer.writeHead(403).end('This page answers to the name of its own machine alone.');
    } else {
      answer.destroy();
    }
    return true;
  }
  return emit.call(this, event, request, answer, ...rest);
};

// It gives its tuner ten seconds to start, too few on a machine whose cores are all at work.
global.setTimeout = function (call, milliseconds, ...rest) {
  const patience = String(call).includes('Tuner did not connect') ? 12 : 1;
  return setTimer(call, patience * milliseconds, ...rest);
};
