/* theme.js - the chosen theme before the first paint: a plain script, since modules run later. */
document.documentElement.dataset.theme = localStorage.getItem('slm.theme') || 'auto';
